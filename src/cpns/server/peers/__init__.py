"""Who is connected to this process, or to another: what the server says to each, and what is known of it."""
