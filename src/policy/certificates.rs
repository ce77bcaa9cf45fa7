//! Makes the schemes of client certificates.

use std::sync::Arc;

use crate::authenticate::certificate::CertificateRule;
use crate::mistake::{Mistakes, Reading};
use crate::policy::sections::Named;
use crate::policy::workshop::Workshop;

impl Workshop<'_> {
    pub(in crate::policy) fn certificates(
        &mut self,
        written: &[Named<CertificateRule>],
        mistakes: &mut Mistakes,
    ) {
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            match rule.compile(&name.value, &name.span, self.vocabulary, &mut reading) {
                Some(scheme) => {
                    let name = format!("certificate.{}", name.value);
                    self.schemes.insert(name, Arc::new(scheme));
                }
                None => mistakes.broke(format!("certificates.{}", name.value)),
            }
        }
    }
}
