"""What tools/fit_profiles.py fits."""
