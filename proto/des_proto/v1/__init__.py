"""Generated code of package `des.v1`; made by `make proto`."""
