"""What is kept over a restart: the server's truth, the gateway's few rows, and Secure Storage.

One schema, one writer thread per file (`database`), one class per port (`server_store`, `gateway_store`, `vault`).
Every time and every random byte comes in as an argument.
"""
