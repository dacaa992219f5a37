"""Implement the protocol of a store by named SQL queries."""
