"""Looking at Gaussians: the page in a browser, its local server, notebooks."""
