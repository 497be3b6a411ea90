"""What runs a model: the protocols, the bridge to the event loop, and OpenVINO behind them."""
