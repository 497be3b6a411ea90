"""Where models lie: folders of this machine, and stores and archives elsewhere."""
