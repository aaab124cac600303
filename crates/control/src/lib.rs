//! The control plane: what the product does. To come; nothing is here yet.
