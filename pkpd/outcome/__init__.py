"""From simulated counts to what a protocol asks: recovery, grades, dose-limiting toxicity, risk."""
