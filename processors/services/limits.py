"""How long connections to services may take."""

from __future__ import annotations

from typing import Any

# Longest wait for a connection, s: the user hears silence meanwhile.
CONNECT_S = 4.0

# Of the websockets library, to which clients pass them on; each client has a type of its own for them.
WEBSOCKET_LIMITS: Any = {"open_timeout": CONNECT_S, "close_timeout": 1.0}
