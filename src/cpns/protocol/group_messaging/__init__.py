"""Messages to a service group: sealed and signed by one member, opened by the others (PROTOCOL sections 7 and 15)."""
