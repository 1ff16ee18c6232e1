namespace nalab {}
