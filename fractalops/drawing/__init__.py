"""Pictures for people: high-resolution drawings, views of point clouds, sheets and plots."""
