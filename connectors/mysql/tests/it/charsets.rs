//! Every code of every character set: the tables the product has are the server's, and both paths
//! read each code as the server does.
//!
//! `UPDATE_CHARSETS=1 cargo nextest run -p thalweg-mysql the_tables_are_the_servers` writes the
//! tables anew.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use thalweg_core::value::CellRef;

use super::types::twin;
use super::world::World;

const NONE: u16 = 0xffff;

/// Sets that are computed, and `binary`, which has no characters.
const COMPUTED: &[&str] = &[
    "binary", "ucs2", "utf16", "utf16le", "utf32", "utf8mb3", "utf8mb4",
];

/// Names of the sets the server has, and octets of their longest codes.
fn sets(world: &World) -> Vec<(String, u32)> {
    world
        .sql(
            "SELECT character_set_name, maxlen FROM information_schema.character_sets \
             ORDER BY character_set_name",
        )
        .lines()
        .map(|line| {
            let (name, longest) = line.split_once('\t').unwrap();
            (name.to_owned(), longest.parse().unwrap())
        })
        .collect()
}

/// What the server makes of codes: `prefix` and then each number, as so many octets.
fn codes(world: &World, set: &str, prefix: &str, octets: usize) -> Vec<u16> {
    let (digits, last) = (octets * 2, (1_u32 << (octets * 8)) - 1);
    let said = world.sql(&format!(
        "SELECT HEX(CONVERT(CONVERT(UNHEX(CONCAT('{prefix}', LPAD(HEX(seq), {digits}, '0'))) \
         USING {set}) USING utf8mb4)) FROM seq_0_to_{last}"
    ));
    let one = |(code, hex): (usize, &str)| {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let text = String::from_utf8(bytes).unwrap();
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            // A question mark stands for what has no character, unless it is one.
            (Some('?'), None) if octets > 1 || !prefix.is_empty() || code != 0x3f => NONE,
            (Some(c), None) => u16::try_from(u32::from(c)).unwrap(),
            _ => NONE,
        }
    };
    let all: Vec<u16> = said.lines().enumerate().map(one).collect();
    assert_eq!(all.len(), 1 << (octets * 8), "{set}");
    all
}

/// The codes of one octet, of two, and of two behind 0x8F, as `tables.bin` has them.
fn table(world: &World, set: &str, longest: u32) -> Vec<u16> {
    let one = codes(world, set, "", 1);
    let mut all = one.clone();
    if longest > 1 {
        let mut two = codes(world, set, "", 2);
        // A second octet can only belong to a first that is no character itself.
        for (code, found) in two.iter_mut().enumerate() {
            if one[code >> 8] != NONE {
                *found = NONE;
            }
        }
        all.extend(two);
    }
    if longest > 2 {
        all.extend(codes(world, set, "8F", 2));
    }
    all
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/wire/charset/tables.bin")
}

fn unpack(mut file: &[u8]) -> BTreeMap<String, Vec<u16>> {
    let mut all = BTreeMap::new();
    while let Some((len, rest)) = file.split_first() {
        let (name, rest) = rest.split_at((*len).into());
        let (len, rest) = rest.split_first_chunk::<4>().unwrap();
        let (packed, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        file = rest;
        let mut bytes = Vec::new();
        ZlibDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        let codes = bytes.chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        all.insert(String::from_utf8(name.to_vec()).unwrap(), codes.collect());
    }
    all
}

fn pack(all: &BTreeMap<String, Vec<u16>>) -> Vec<u8> {
    let mut file = Vec::new();
    for (name, codes) in all {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
        for code in codes {
            packer.write_all(&code.to_be_bytes()).unwrap();
        }
        let packed = packer.finish().unwrap();
        file.push(u8::try_from(name.len()).unwrap());
        file.extend_from_slice(name.as_bytes());
        file.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
        file.extend(packed);
    }
    file
}

fn server_tables(world: &World) -> BTreeMap<String, Vec<u16>> {
    sets(world)
        .into_iter()
        .filter(|(set, _)| !COMPUTED.contains(&set.as_str()))
        .map(|(set, longest)| {
            let codes = table(world, &set, longest);
            (set, codes)
        })
        .collect()
}

#[test]
fn the_tables_are_the_servers() {
    let world = World::new(&[]);
    let all = server_tables(&world);
    if std::env::var_os("UPDATE_CHARSETS").is_some() {
        fs::write(file(), pack(&all)).unwrap();
    }
    let ours = unpack(&fs::read(file()).unwrap());
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        all.keys().collect::<Vec<_>>()
    );
    for (set, codes) in &all {
        assert_eq!(ours[set].len(), codes.len(), "{set}");
        let differs = codes.iter().zip(&ours[set]).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{set}");
    }
    let characters: usize = all
        .values()
        .map(|codes| codes.iter().filter(|code| **code != NONE).count())
        .sum();
    println!("{} sets, {characters} characters", all.len());
}

/// Codes in hexadecimal that have a character.
fn characters(codes: &[u16]) -> Vec<String> {
    let known = |(code, found): (usize, &u16)| (*found != NONE).then_some(code);
    let (one, rest) = codes.split_at(256);
    let (two, three) = rest.split_at(rest.len().min(1 << 16));
    let one = one.iter().enumerate().filter_map(known);
    let two = two.iter().enumerate().filter_map(known);
    let three = three.iter().enumerate().filter_map(known);
    one.map(|code| format!("{code:02x}"))
        .chain(two.map(|code| format!("{code:04x}")))
        .chain(three.map(|code| format!("8f{code:04x}")))
        .collect()
}

/// The characters of the sets that are computed: all of the basic plane, and some beyond it.
fn unicode(set: &str) -> Vec<String> {
    let beyond = (0x1_0000..0x11_0000_u32).step_by(257);
    let wide = !matches!(set, "ucs2" | "utf8mb3");
    let chars = (0..0x1_0000).chain(beyond.filter(|_| wide));
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
    chars
        .filter_map(char::from_u32)
        .map(|c| {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            match set {
                "utf32" => hex(&u32::from(c).to_be_bytes()),
                "utf16le" => hex(&units.flat_map(|u| u.to_le_bytes()).collect::<Vec<_>>()),
                "utf16" | "ucs2" => hex(&units.flat_map(|u| u.to_be_bytes()).collect::<Vec<_>>()),
                _ => hex(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        })
        .collect()
}

pub(crate) async fn every_code_of_every_set_is_read_alike_by_both_paths_and_the_server() {
    let world = World::new(&[]);
    let ours = unpack(&fs::read(file()).unwrap());
    let (mut count, mut seen) = (0, 0);
    for (set, _) in sets(&world) {
        let codes = match ours.get(&set) {
            Some(codes) => characters(codes),
            None if set == "binary" => continue,
            None => unicode(&set),
        };
        seen += 1;
        count += codes.len();
        let name = format!("codes_{set}");
        world.sql(&format!(
            "CREATE TABLE {name} (id INT PRIMARY KEY, c TEXT CHARACTER SET {set})"
        ));
        let table = world.tables(&[&name]).await.remove(0);
        assert_eq!(world.check(&[&name]).await, [], "{set}");
        let rows: Vec<String> = codes
            .chunks(40)
            .enumerate()
            .map(|(id, codes)| format!("({id}, x'{}')", codes.concat()))
            .collect();
        let fill = format!("INSERT INTO shop.{name} VALUES {}", rows.join(", "));
        twin(&world, &table, &fill).await;
        let said = world.sql(&format!(
            "SELECT id, HEX(CONVERT(c USING utf8mb4)) FROM {name}"
        ));
        let said: BTreeMap<i64, &str> = said
            .lines()
            .map(|line| line.split_once('\t').unwrap())
            .map(|(id, hex)| (id.parse().unwrap(), hex))
            .collect();
        let (read, _) = world.read(&table).await;
        assert_eq!(read.len(), rows.len());
        for row in read.iter() {
            let (Some(CellRef::I64(id)), Some(CellRef::Text(text))) = (row.cell(0), row.cell(1))
            else {
                panic!("a key and a text")
            };
            let hex: String = text.bytes().map(|b| format!("{b:02X}")).collect();
            assert_eq!(said[&id], hex, "{set} row {id}");
        }
    }
    assert!(seen >= 39 && count > 400_000, "{seen} {count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_without_a_character_is_reported_and_not_replaced() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY, c TEXT CHARACTER SET gbk)");
    let start = world.here().await;
    // Well-formed, so that the server takes it, but no character.
    world.sql("INSERT INTO t VALUES (1, x'a2a1fe50'), (2, x'a140')");
    let table = world.tables(&["t"]).await;
    let (_, error) = world.stops(&start, &table).await;
    assert_eq!(error.kind(), thalweg_core::Kind::Data, "{}", error.chain());
}
