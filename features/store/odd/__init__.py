"""What is odd in rows and no error: said by convert, check, explore and each run."""
