//! Description of the contract, for reflection.

/// Encoded `google.protobuf.FileDescriptorSet` of `usm.v1` and its imports, with the contract's comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");
