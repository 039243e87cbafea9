//! Words for receipts, and for what two people compare: short, plain, and hard to mistake for one another on the
//! telephone.

/// Bytes as words, one for each.
pub fn phrase(bytes: &[u8]) -> String {
    let words: Vec<&str> = bytes.iter().filter_map(|&byte| WORDS.get(usize::from(byte)).copied()).collect();
    words.join(" ")
}

/// One for each value of a byte.
#[rustfmt::skip]
pub(super) const WORDS: [&str; 256] = [
    "acorn", "actor", "agent", "alarm", "album", "amber", "angle", "ankle", "apple", "april", "arena",
    "arrow", "atlas", "attic", "autumn", "bacon", "badge", "baker", "bamboo", "banjo", "basin", "basket",
    "beach", "beacon", "beaver", "berry", "birch", "bishop", "blade", "blanket", "border", "bottle",
    "bottom", "bowl", "branch", "bread", "breeze", "brick", "bridge", "bronze", "bucket", "buffalo",
    "bugle", "butter", "button", "cable", "cactus", "camel", "camera", "canal", "canoe", "canvas", "canyon",
    "carbon", "carpet", "castle", "cedar", "cello", "cement", "chalk", "cherry", "chess", "chimney",
    "cider", "circle", "clover", "coffee", "comet", "compass", "copper", "corner", "cotton", "cousin",
    "cradle", "crane", "crown", "crystal", "curtain", "cycle", "dairy", "delta", "desert", "diamond",
    "dinner", "dolphin", "door", "dragon", "drum", "eagle", "easel", "echo", "elbow", "elder", "ember",
    "engine", "ermine", "falcon", "farmer", "feather", "fender", "ferry", "fiddle", "finger", "fir",
    "flame", "flint", "flute", "forest", "fossil", "fox", "frost", "galaxy", "garden", "garlic", "gate",
    "gecko", "ginger", "glacier", "globe", "glove", "goat", "golden", "granite", "grape", "gravel",
    "guitar", "gull", "hammer", "harbor", "harvest", "hazel", "hedge", "helmet", "hermit", "heron",
    "hickory", "hollow", "honey", "hornet", "horizon", "hunter", "iceberg", "igloo", "indigo", "iris",
    "island", "ivory", "jacket", "jaguar", "jasmine", "jelly", "jersey", "jigsaw", "jungle", "juniper",
    "kayak", "kernel", "kettle", "kitchen", "kite", "koala", "ladder", "lagoon", "lantern", "laurel",
    "leather", "lemon", "lentil", "lily", "linen", "lizard", "lobster", "locket", "lotus", "lumber",
    "magnet", "mango", "maple", "marble", "market", "meadow", "melon", "mentor", "meteor", "mill", "mirror",
    "mitten", "monkey", "mosaic", "motor", "muffin", "mustard", "napkin", "nectar", "needle", "nickel",
    "north", "oasis", "ocean", "olive", "onion", "opal", "orange", "orchard", "otter", "oyster", "paddle",
    "panda", "paper", "parrot", "pasture", "peanut", "pebble", "pencil", "pepper", "piano", "pigeon",
    "pillow", "pilot", "pine", "planet", "plum", "pocket", "pond", "poppy", "potato", "prairie", "pumpkin",
    "puzzle", "quarry", "quartz", "quill", "rabbit", "radio", "raven", "ribbon", "river", "robin", "rocket",
    "saddle", "salmon", "sapling", "scarf", "shadow", "silver", "tango", "tiger", "timber", "tulip",
    "turtle", "valley", "velvet", "violin", "walnut", "willow", "winter",
];
