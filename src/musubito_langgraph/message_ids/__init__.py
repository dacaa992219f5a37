"""Find the ids of messages in values, and put placeholders for them."""
