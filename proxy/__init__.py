"""The running program: from the client's socket to the capture, the report and the console."""
