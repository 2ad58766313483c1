use super::origin;

mod stage;
mod twice;

#[test]
fn origins() {
    assert_eq!(&*origin("https://a.b:1/c?d"), "https://a.b:1");
    assert_eq!(&*origin("https://a.b?d"), "https://a.b");
    assert_eq!(&*origin("http://a"), "http://a");
    assert_eq!(&*origin("nonsense"), "nonsense");
}
