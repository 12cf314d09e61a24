"""The generated protobuf modules of identityapi; `make proto` writes what is below this folder."""
