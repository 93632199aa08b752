"""All measurements and checks that need a GPU, in one run of ten minutes: `python -m bench gpu`."""
