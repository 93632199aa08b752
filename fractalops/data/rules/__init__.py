"""How a data set of fractals draws its images: one module for the rules of each published generator, and our own."""
