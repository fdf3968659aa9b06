"""What the bytes and the words of RESP mean. Pure: imports the standard library only."""
