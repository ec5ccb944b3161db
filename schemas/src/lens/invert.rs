//! The way back: from the expression that reads a field, the column and the expression that write it.
//!
//! Functions that lose something (`lower`, `trim`) are taken back as a copy: whether that loses anything of this field is
//! what the law finds out, on values and not on names of functions.

use super::expr::Expr;

/// The column that `get` reads and the expression over `field` that fills it; none if there is no telling.
pub(crate) fn invert(get: &Expr, field: &str) -> Option<(String, Expr)> {
    undo(get, Expr::name(field))
}

/// What `get`'s column must hold for `get` to give `wanted`.
fn undo(get: &Expr, wanted: Expr) -> Option<(String, Expr)> {
    match get {
        Expr::Name(column) => Some((column.clone(), wanted)),
        Expr::Trim(inner) | Expr::Lower(inner) | Expr::Default(inner, _) => undo(inner, wanted),
        Expr::NullIf(inner, empty) => undo(inner, Expr::Default(Box::new(wanted), empty.clone())),
        Expr::Split(inner, separator) => undo(inner, Expr::Join(separator.clone(), vec![wanted])),
        Expr::Join(separator, parts) => match parts.as_slice() {
            [part] if !separator.trim().is_empty() => undo(part, Expr::Split(Box::new(wanted), separator.clone())),
            _ => None,
        },
        Expr::Scale(inner, digits) => undo(inner, Expr::Unscale(Box::new(wanted), *digits)),
        Expr::Unscale(inner, digits) => undo(inner, Expr::Scale(Box::new(wanted), *digits)),
        Expr::Enum(inner, codes) => undo(inner, Expr::Enum(Box::new(wanted), reversed(codes))),
        _ => None,
    }
}

fn reversed(codes: &[(String, String)]) -> Vec<(String, String)> {
    codes.iter().map(|(from, to)| (to.clone(), from.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_taken_back_is() {
        for (get, column, put) in [
            ("labels", "labels", "f"),
            ("trim(a)", "a", "f"),
            ("split(trim(a), ';')", "a", "join(';', f)"),
            ("join(';', a)", "a", "split(f, ';')"),
            ("scale(p, 2)", "p", "scale(f, -2)"),
            ("null_if(a, '')", "a", "default(f, '')"),
            (
                "enum(s, 'A=active', 'I=inactive')",
                "s",
                "enum(f, 'active=A', 'inactive=I')",
            ),
        ] {
            let (into, expr) = invert(&get.parse().unwrap(), "f").unwrap();
            assert_eq!((into.as_str(), expr.to_string().as_str()), (column, put));
        }
        for get in ["join(' ', a, b)", "word(a, 1)", "rest(a)", "e164(a, 'GB')", "'x'"] {
            assert_eq!(invert(&get.parse().unwrap(), "f"), None, "{get}");
        }
    }
}
