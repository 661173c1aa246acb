"""The only door to the CoAP stack: endpoints, OSCORE, the blind relay, discovery, and errors as CoAP codes."""
