"""The rows of Tables 1 and 2 as one table of switches, and the systems behind them."""
