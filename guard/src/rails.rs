//! One set of guard rails, checked and never changed, and the decision by it.
//!
//! Rails are laid out by resource: where a rail's scope names one, it is looked at for that resource and those below only. A scope
//! that does not match can neither decide nor err, so this changes no decision; it keeps a thousand rails cheap.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    RestrictedExpression,
};
use concordat_policy::{Cause, Code, Name, PurposeTree, Rail, Refusal};

use crate::kept::Loaded;

/// A checked set.
#[derive(Debug)]
pub(crate) struct Rails {
    pub(crate) types: Types,
    /// Where each rail stands and what its `@advice` is, by `@id`.
    pub(crate) about: BTreeMap<Name, About>,
    /// What is to be looked at for each resource there is.
    pub(crate) by_resource: HashMap<Name, Arc<PolicySet>>,
    /// Each purpose with the wider ones.
    pub(crate) purposes: HashMap<Name, Vec<Entity>>,
    pub(crate) loaded: Loaded,
}

/// What a refusal says of a rail beside its name.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) file: Name,
    pub(crate) advice: Option<String>,
}

/// The schema's names, parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    pub(crate) caller: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityTypeName,
    pub(crate) purpose: EntityTypeName,
    pub(crate) mission: EntityTypeName,
    pub(crate) agreement: EntityTypeName,
}

impl Types {
    /// The types of a schema with this action on this resource.
    ///
    /// # Errors
    /// Never for names that are fixed and good.
    pub(crate) fn of(action: &str, resource: &str) -> Result<Self, String> {
        let type_name = |text: &str| text.parse::<EntityTypeName>().map_err(|e| e.to_string());
        Ok(Self {
            caller: EntityUid::from_type_name_and_id(type_name("Caller")?, EntityId::new("")),
            action: EntityUid::from_type_name_and_id(type_name("Action")?, EntityId::new(action)),
            resource: type_name(resource)?,
            purpose: type_name("Purpose")?,
            mission: type_name("Mission")?,
            agreement: type_name("Agreement")?,
        })
    }
}

/// The entity of a name.
pub(crate) fn entity(kind: &EntityTypeName, name: &Name) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name.as_str()))
}

/// Every purpose with the wider ones, as entities.
pub(crate) fn purposes(tree: &PurposeTree, kind: &EntityTypeName) -> HashMap<Name, Vec<Entity>> {
    let one =
        |id: &Name, parent: Option<&Name>| Entity::new_no_attrs(entity(kind, id), parent.map(|id| entity(kind, id)).into_iter().collect());
    let chain = |id: &Name| tree.ancestry(id).map(|purpose| one(&purpose.id, purpose.parent.as_ref())).collect();
    tree.iter().map(|purpose| (purpose.id.clone(), chain(&purpose.id))).collect()
}

/// What there is to say of one request.
pub(crate) struct Facts<'a> {
    pub(crate) resource: &'a Name,
    pub(crate) purpose: &'a Name,
    /// The caller's attributes.
    pub(crate) caller: HashMap<String, RestrictedExpression>,
    pub(crate) context: Vec<(String, RestrictedExpression)>,
}

impl Rails {
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Decides; `department` is whose rails these are, `None` for the gateway's.
    ///
    /// # Errors
    /// [`Code::Denied`]: a rail forbids it, none permits it, or one cannot be evaluated. [`Code::Internal`] where the question cannot
    /// be put.
    pub(crate) fn decide(&self, facts: Facts<'_>, department: Option<&Name>) -> Result<(), Refusal> {
        let unknown = || Refusal::internal("guard rails: a resource or purpose that was not there when they were read");
        let set = self.by_resource.get(facts.resource).ok_or_else(unknown)?;
        let wider = self.purposes.get(facts.purpose).ok_or_else(unknown)?;
        let (request, entities) = self.question(facts, wider)?;
        let answer = Authorizer::new().is_authorized(&request, set, &entities);
        let diagnostics = answer.diagnostics();
        let failed = diagnostics.errors().map(|AuthorizationError::PolicyEvaluationError(error)| error);
        // The first by name: which one is told does not depend on the order of files.
        if let Some(error) = failed.min_by(|one, other| one.policy_id().cmp(other.policy_id())) {
            return Err(self.refusal(Some(error.policy_id()), true, department).operator(error.inner()));
        }
        match answer.decision() {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(self.refusal(diagnostics.reason().min(), false, department)),
        }
    }

    fn question(&self, facts: Facts<'_>, wider: &[Entity]) -> Result<(Request, Entities), Refusal> {
        let caller = Entity::new(self.types.caller.clone(), facts.caller, [].into()).map_err(Refusal::internal)?;
        let entities = Entities::from_entities(std::iter::once(caller).chain(wider.iter().cloned()), None).map_err(Refusal::internal)?;
        let context = Context::from_pairs(facts.context).map_err(Refusal::internal)?;
        let resource = entity(&self.types.resource, facts.resource);
        let request = Request::new(self.types.caller.clone(), self.types.action.clone(), resource, context, None);
        Ok((request.map_err(Refusal::internal)?, entities))
    }

    fn refusal(&self, id: Option<&PolicyId>, failed: bool, department: Option<&Name>) -> Refusal {
        let known = id.and_then(|id| self.about.iter().find(|(name, _)| name.as_str() == AsRef::<str>::as_ref(id)));
        let rail = known.map(|(id, about)| Rail { id: id.clone(), file: about.file.clone() });
        let advice = match known {
            Some((_, About { advice: Some(advice), .. })) if !failed => advice.as_str(),
            _ => "ask who keeps these guard rails: they say who may ask, when and from where",
        };
        let refusal = Refusal::because(Code::Denied, Cause::Guard { department: department.cloned(), rail, failed }).advice(advice);
        match department {
            Some(department) => refusal.department(department),
            None => refusal,
        }
    }
}
