"""What is true of entities, personal networks and readings; rules without I/O."""
