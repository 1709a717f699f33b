"""The application: vocabulary (model), use cases (sharing), doors (web, feeds), and the roof that wires them."""
