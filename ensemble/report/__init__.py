"""The report that people look at: a finished run as one self-contained HTML page."""

from ensemble.report.writing import Report, write_report

__all__ = ["Report", "write_report"]
