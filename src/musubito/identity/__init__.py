"""What a call is identified by: its input, and the code that it reaches."""
