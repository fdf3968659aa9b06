"""The studies: one module for each question that a report asks of a capture (``report.study`` says what one is)."""
