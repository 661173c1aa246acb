"""The load that ``cpns bench`` puts on a server: real gateways and PNEs, in processes of their own; what it gave."""
