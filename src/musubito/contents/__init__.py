"""What becomes of a payload's bytes on their way into a store and back: compression, encryption, and files of their
own for large ones."""
