"""Rules that draw the images of a data set: one module for each published generator, and one for our own rules."""
