"""Pictures for users: high-resolution drawings, animations, pages, views of point clouds, sheets and plots."""
