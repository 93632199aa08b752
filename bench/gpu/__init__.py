"""`python -m bench gpu`: all measurements and checks that need a GPU, in one run of ten minutes."""
