"""CoAP and OSCORE without input and output: bytes and the time go in, events and bytes come out.

Nothing here reads a clock, draws randomness, opens a socket, waits or logs. The caller has the sockets: it hands in
bytes, times and random numbers, and sends what `take` gives. Floors, each of which uses those below it alone:

    messaging      the message layer over UDP: repetition, duplicates, separate responses (RFC 7252 4, 5.2)
                   by `confirmable`, `duplicates`, `mids`, `tuning`
    connection     one connection over TCP or TLS: settings, signals, the end (RFC 8323)
    oscore         sealing and opening, by `oscore_option` and `window` (RFC 8613)
    datagram       one message as a datagram (RFC 7252 3)
    frame          one message in a stream (RFC 8323 3.2)
    message        code, token, options, payload; options as bytes (RFC 7252 3.1)
    events         what messages do to whoever uses this
    numbers        the tables of the registries
    errors

Rules of the house of CoAP:

* A message is decoded in one pass that ends at 32 options, and its payload is cut out once. Options stay bytes until
  somebody asks: the receiver of a sealed message needs Uri-Host, OSCORE and the payload.
* Tokens have 8 bytes at most. The longer ones of RFC 8974 are a format error, as RFC 7252 3 asks of an endpoint
  without that extension. A token of 65,804 bytes would be state that others fill.
* A peer's fault is a `FormatError` or `AuthenticationFailed`; what we can't send is a `CannotSend`.
"""
