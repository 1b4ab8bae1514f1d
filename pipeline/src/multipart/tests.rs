//! Bodies of all kinds, cut into pieces at every place.

use super::*;
use sha2::{Digest, Sha256};

/// Parts with their heads, whatever pieces they came in.
fn read(body: &[u8], piece: usize) -> Result<Vec<(PartHead, Vec<u8>)>, Fault> {
    let mut parts: Vec<(PartHead, Vec<u8>)> = Vec::new();
    let mut ended = 0;
    let mut multipart = Multipart::new("b");
    for piece in body.chunks(piece.max(1)) {
        multipart.push(piece, &mut |event| match event {
            Event::Begin(head) => parts.push((head, Vec::new())),
            Event::Data(bytes) => parts.last_mut().unwrap().1.extend_from_slice(bytes),
            Event::End => ended += 1,
        })?;
    }
    multipart.finish()?;
    assert_eq!(ended, parts.len());
    Ok(parts)
}

fn part(head: &str, bytes: &[u8]) -> Vec<u8> {
    [b"--b\r\n", head.as_bytes(), b"\r\n", bytes, b"\r\n"].concat()
}

const NAMED: &str = "Content-Disposition: form-data; name=\"n\"\r\n";

#[test]
fn parts_are_the_same_however_the_body_is_cut() {
    let almost = b"\r\n--\r\n--a\r\r\n--\r\n-".as_slice();
    let body = [
        b"a preamble\r\n".to_vec(),
        part(NAMED, b""),
        part(NAMED, almost),
        part("", b"no head"),
        b"--b\r\nX: y\r\n\r\n--b\r\n\r\n--b\r\n\r\n\r\n".to_vec(),
        b"--b \t\r\n".to_vec(),
        NAMED.as_bytes().to_vec(),
        b"\r\npadding\r\n--b--\r\nan epilogue\r\n--b\r\n".to_vec(),
    ]
    .concat();
    let whole = read(&body, body.len()).unwrap();
    let bytes: Vec<&[u8]> = whole.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(
        bytes,
        [
            b"".as_slice(),
            almost,
            b"no head",
            b"",
            b"",
            b"",
            b"padding"
        ]
    );
    assert_eq!(whole[0].0.name, "n");
    for piece in 1..body.len() {
        assert_eq!(read(&body, piece).unwrap(), whole, "pieces of {piece}");
    }
}

#[test]
fn a_body_that_was_cut_off_anywhere_is_a_fault() {
    let body = [part(NAMED, b"one"), part(NAMED, b"two"), b"--b--".to_vec()].concat();
    assert_eq!(read(&body, 7).unwrap().len(), 2);
    for end in 1..body.len() {
        assert_eq!(read(&body[..end], 7), Err(Fault::Unterminated), "{end}");
    }
    assert_eq!(read(b"", 1), Ok(Vec::new()));
}

#[test]
fn heads_and_numbers_have_limits() {
    let many = |count: usize| {
        let mut body = part(NAMED, b"x").repeat(count);
        body.extend_from_slice(b"--b--\r\n");
        read(&body, 4096).map(|parts| parts.len())
    };
    assert_eq!(many(MAX_PARTS as usize), Ok(1000));
    assert_eq!(many(MAX_PARTS as usize + 1), Err(Fault::TooManyParts));
    let long = [b"--b\r\nX: ".to_vec(), vec![b'y'; MAX_PART_HEAD_BYTES * 64]].concat();
    for piece in [1000, long.len()] {
        assert_eq!(read(&long, piece), Err(Fault::HeadTooLarge));
    }
    assert_eq!(read(b"--bc\r\n\r\n\r\n--b--", 3), Err(Fault::BoundaryLine));
    let spaces = [b"--b".to_vec(), vec![b' '; 10_000]].concat();
    assert_eq!(read(&spaces, 100), Err(Fault::BoundaryLine));
}

#[test]
fn short_texts_are_fields_and_everything_else_is_a_file() {
    let named = |name: &str, filename: Option<&str>, bytes: &[u8]| {
        let filename = filename.map_or(String::new(), |name| format!("; filename=\"{name}\""));
        let head = format!("Content-Disposition: form-data; name=\"{name}\"{filename}\r\n");
        part(&head, bytes)
    };
    let long = vec![b'l'; MAX_FIELD_BYTES + 1];
    let body = [
        named("a", None, b"1"),
        named("f", Some("../../x"), b"file"),
        named("a", None, b"2"),
        named("binary", None, &[0xff, 0x00]),
        named("long", None, &long),
        named("f", Some(""), b""),
        b"--b--".to_vec(),
    ]
    .concat();
    let mut parts = Parts::new("b");
    for piece in body.chunks(1000) {
        parts.push(piece).unwrap();
    }
    let (fields, files) = parts.finish().unwrap();
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(fields, [field("a", "1"), field("a", "2")]);
    let told: Vec<_> = files
        .iter()
        .map(|file| {
            (
                file.index,
                file.name.as_str(),
                file.filename.as_deref(),
                file.size,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "f", Some("../../x"), 4),
            (3, "binary", None, 2),
            (4, "long", None, long.len() as u64),
            (5, "f", Some(""), 0),
        ]
    );
    let digest: [u8; 32] = Sha256::digest(b"file").into();
    assert_eq!(files[0].sha256, digest);
}

#[test]
fn fields_that_are_too_much_together_are_files() {
    let fields = MAX_FORM_BYTES / MAX_FIELD_BYTES + 2;
    let mut body = part(NAMED, &vec![b'x'; MAX_FIELD_BYTES]).repeat(fields);
    body.extend_from_slice(b"--b--");
    let mut parts = Parts::new("b");
    parts.push(&body).unwrap();
    let (kept, files) = parts.finish().unwrap();
    let bytes: usize = kept
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(bytes <= MAX_FORM_BYTES);
    assert_eq!(kept.len() + files.len(), fields);
    assert!(!files.is_empty());
}

/// Name, file name and bytes.
type Named = (String, Option<String>, Vec<u8>);

/// What multer, a reader of its own making, finds in a body; `None` if it refuses it.
fn read_by_multer(body: &[u8]) -> Option<Vec<Named>> {
    let body = bytes::Bytes::copy_from_slice(body);
    let whole = futures_util::stream::iter([Ok::<_, std::io::Error>(body)]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut multipart = multer::Multipart::new(whole, "b");
        let mut parts = Vec::new();
        while let Some(field) = multipart.next_field().await.ok()? {
            let name = field.name().unwrap_or_default().to_owned();
            let filename = field.file_name().map(str::to_owned);
            parts.push((name, filename, field.bytes().await.ok()?.to_vec()));
        }
        Some(parts)
    })
}

proptest::proptest! {
    #[test]
    fn another_reader_finds_the_same(
        parts in proptest::collection::vec(
            ("[a-z ;=.]{1,8}", proptest::option::of("[a-z/;=.]{0,8}"), proptest::collection::vec(
                proptest::prelude::prop_oneof![
                    proptest::strategy::Just(b"\r\n".to_vec()),
                    proptest::strategy::Just(b"--b".to_vec()),
                    proptest::strategy::Just(b"\r\n--".to_vec()),
                    proptest::collection::vec(0u8..=255, 0..20),
                ], 0..6)),
            0..5),
        piece in 1usize..40,
    ) {
        let mut body = Vec::new();
        let mut expected = Vec::new();
        for (name, filename, pieces) in parts {
            let bytes = pieces.concat();
            // Its own boundary in a part would be its end.
            if [b"\r\n".as_slice(), &bytes].concat().windows(5).any(|w| w == b"\r\n--b") {
                continue;
            }
            let file = filename.as_ref().map_or(String::new(), |name| format!("; filename=\"{name}\""));
            let head = format!("Content-Disposition: form-data; name=\"{name}\"{file}\r\n");
            body.extend_from_slice(&part(&head, &bytes));
            expected.push((name, filename, bytes));
        }
        body.extend_from_slice(b"--b--\r\n");
        let ours: Vec<_> = read(&body, piece)
            .unwrap()
            .into_iter()
            .map(|(head, bytes)| (head.name, head.filename, bytes))
            .collect();
        proptest::prop_assert_eq!(&ours, &expected);
        proptest::prop_assert_eq!(Some(ours), read_by_multer(&body));
    }

    #[test]
    fn any_bytes_are_parts_or_a_fault(body: Vec<u8>, piece in 1usize..50) {
        let body = [b"--b\r\n".as_slice(), &body].concat();
        let _ = read(&body, piece);
    }
}

/// What is kept of parts without bytes is bounded too, whether they are fields or files.
#[test]
fn names_are_bounded_together() {
    let many = |parts: usize, disposition: &str| {
        let head = format!("Content-Disposition: form-data; {disposition}\r\n");
        let mut body = part(&head, b"").repeat(parts);
        body.extend_from_slice(b"--b--\r\n");
        let mut found = Parts::new("b");
        body.chunks(64 * 1024)
            .try_for_each(|piece| found.push(piece))?;
        found.finish()
    };
    let long = "n".repeat(1000);
    for disposition in [
        format!("name=\"{long}\""),
        format!("name=\"f\"; filename=\"{long}\""),
        format!("name=\"f\"; filename=\"f\"\r\nContent-Type: {long}"),
    ] {
        let refused = many(MAX_PARTS as usize, &disposition);
        assert_eq!(refused, Err(Fault::NamesTooLarge), "{disposition}");
        assert!(many(200, &disposition).is_ok());
    }
    let (fields, _) = many(MAX_PARTS as usize, "name=\"short\"").unwrap();
    assert_eq!(fields.len(), MAX_PARTS as usize);
}
