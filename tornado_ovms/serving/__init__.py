"""What is served and how requests reach it; no HTTP and no OpenVINO in this package."""
