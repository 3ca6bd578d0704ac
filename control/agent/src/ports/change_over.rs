//! Whether an uplink has changed over, so that the network beyond is to be told where
//! interfaces are.

/// What was seen of a port's link, from look to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeOver {
    /// Whether it had a link before.
    was_up: bool,
    /// Whether it lost it, or another member of the bond has begun to send, since its
    /// interfaces were announced.
    is_due: bool,
    /// The member of a bond that sent at the last look.
    active: Option<u16>,
}

impl ChangeOver {
    /// Notes a look: whether there is a link, and of a bond the member that sends. True if
    /// the port carries, and what is beyond has to be told. The first link of a port is no
    /// change: nobody has been told of another place.
    pub fn look(&mut self, has_link: bool, active: Option<u16>) -> bool {
        let is_another = self.active.is_some() && active.is_some() && active != self.active;
        self.active = active.or(self.active);
        self.is_due |= self.was_up && (is_another || !has_link);
        self.was_up |= has_link;
        has_link && std::mem::take(&mut self.is_due)
    }

    /// Notes that the port is out of service.
    pub fn lose(&mut self) {
        self.is_due |= self.was_up;
        self.active = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_returns_and_another_member_are_told_once_each() {
        let mut port = ChangeOver::default();
        // (link, member) and whether it is told.
        let looks = [
            (false, None, false),
            (true, None, false),
            (true, None, false),
            (false, None, false),
            (false, None, false),
            (true, None, true),
            (true, None, false),
        ];
        for (at, (has_link, active, told)) in looks.into_iter().enumerate() {
            assert_eq!(port.look(has_link, active), told, "look {at}");
        }
        port.lose();
        assert!(port.look(true, None) && !port.look(true, None));
        let mut never = ChangeOver::default();
        never.lose();
        assert!(!never.look(true, None), "it was never there");
        let mut bond = ChangeOver::default();
        let looks = [
            (false, Some(1), false),
            (true, Some(1), false),
            (true, Some(2), true),
            (true, Some(2), false),
            (true, Some(1), true),
            // Of both links none is left, then the other one's returns.
            (false, Some(1), false),
            (true, Some(2), true),
            // While none of them has a link, it may say nothing.
            (false, None, false),
            (true, Some(2), true),
            (true, Some(2), false),
        ];
        for (at, (has_link, active, told)) in looks.into_iter().enumerate() {
            assert_eq!(bond.look(has_link, active), told, "look {at} of the bond");
        }
    }
}
