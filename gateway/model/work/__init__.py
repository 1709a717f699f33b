"""Work in words: jobs that outlive a process, and transfers of images with what keeps them."""
