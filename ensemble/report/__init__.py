"""The report that people look at: a finished run as one self-contained HTML page."""

from ensemble.report.writing import write_report

__all__ = ["write_report"]
