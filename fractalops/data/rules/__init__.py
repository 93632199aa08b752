"""Rules by which a data set draws its images: one module for each published generator, and our own."""
