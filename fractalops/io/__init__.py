"""Files in and out: pictures, point clouds, tensors, tables, run folders."""
