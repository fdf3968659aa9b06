"""Sends a capture's commands to another Redis: what is sent when, and how the answers compare."""
