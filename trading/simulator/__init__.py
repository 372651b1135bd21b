"""A simulated Coinbase Advanced Trade: an HTTPS and WebSocket server on loopback with a matching engine and faults.

`venue` is the exchange itself, a pure function of its commands; `simulation` gives it a clock and a journal; `server` the wire.
"""
