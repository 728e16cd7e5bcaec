//! The word lists that events are put together from.

pub(super) const CLINICS: &[&str] = &[
    "rongtse",
    "dolpaling",
    "menchugang",
    "tashiphu",
    "yarkha",
    "sengdrak",
    "lhamoi",
    "chuzomsa",
    "gonpathang",
    "nyerchu",
    "zhingkha",
    "damphug",
];

pub(super) const VILLAGES: &[&str] = &[
    "Upper Rongtse",
    "Lower Rongtse",
    "Dolpa",
    "Menchu",
    "Tashiphu",
    "Yarkha",
    "Sengdrak",
    "Chuzom Bridge",
    "Gonpa",
    "Nyer",
    "Zhing",
    "Damphug",
    "Khargola",
    "Pangsho",
    "Lumthang",
    "Bartsam Top",
];

pub(super) const FIRST_NAMES: &[&str] = &[
    "Pema", "Karma", "Sonam", "Tashi", "Dorji", "Kinley", "Ugyen", "Choki", "Dechen", "Jigme", "Namgay", "Tshewang",
    "Yangchen", "Rinzin", "Lhamo", "Singye", "Deki", "Norbu", "Phuntsho", "Zangmo",
];

pub(super) const SECOND_NAMES: &[&str] = &[
    "Dema",
    "Wangdi",
    "Lhaden",
    "Tobgay",
    "Choden",
    "Dukpa",
    "Penjor",
    "Yangden",
    "Gyeltshen",
    "Zam",
    "Rabten",
    "Wangmo",
    "Drukdra",
    "Tenzin",
    "Selden",
    "Thinley",
    "Peldon",
    "Samdrup",
];

pub(super) const OCCUPATIONS: &[&str] =
    &["farmer", "student", "weaver", "herder", "shopkeeper", "driver", "teacher", "none", "carpenter"];

pub(super) const COMPLAINTS: &[&str] = &[
    "cough",
    "fever",
    "loose stools",
    "headache",
    "back pain",
    "knee pain",
    "sore throat",
    "ear pain",
    "skin rash",
    "burning urine",
    "belly pain",
    "tooth pain",
    "dizziness",
    "cut on the hand",
    "swollen foot",
    "blurred vision",
    "vomiting",
    "itching eyes",
    "short breath uphill",
    "poor sleep",
];

pub(super) const MANNERS: &[&str] = &[
    "worse at night",
    "comes and goes",
    "after a fall",
    "after work in the field",
    "better with rest",
    "not better with home remedy",
    "first time",
    "had the same last winter",
];

pub(super) const FINDINGS: &[&str] = &[
    "chest clear",
    "few crackles right base",
    "throat red",
    "no pallor",
    "mild pallor",
    "belly soft",
    "tender over the stomach",
    "no swelling",
    "wound clean",
    "dressing changed",
    "drinks well",
    "oral fluids advised",
    "rest advised",
    "told the danger signs",
    "eardrum dull",
    "pulse regular",
    "gait normal",
    "walks with a stick",
    "family informed",
    "inhaler technique shown",
];

pub(super) const DIAGNOSES: &[(&str, &str)] = &[
    ("J06.9", "Acute upper respiratory infection"),
    ("A09", "Gastroenteritis"),
    ("I10", "Essential hypertension"),
    ("M54.5", "Low back pain"),
    ("K29.7", "Gastritis"),
    ("L08.9", "Skin infection"),
    ("H10.9", "Conjunctivitis"),
    ("N39.0", "Urinary tract infection"),
    ("J45.9", "Asthma"),
    ("S61.9", "Open wound of wrist or hand"),
    ("K02.9", "Dental caries"),
    ("B35.4", "Ringworm of the body"),
    ("R51", "Headache"),
    ("E11.9", "Type 2 diabetes"),
];

pub(super) const DRUGS: &[(&str, &str)] = &[
    ("Paracetamol 500 mg", "1 tab"),
    ("Amoxicillin 500 mg", "1 cap"),
    ("Ibuprofen 400 mg", "1 tab"),
    ("ORS sachet", "1 sachet"),
    ("Omeprazole 20 mg", "1 cap"),
    ("Amlodipine 5 mg", "1 tab"),
    ("Metformin 500 mg", "1 tab"),
    ("Cetirizine 10 mg", "1 tab"),
    ("Metronidazole 400 mg", "1 tab"),
    ("Salbutamol inhaler", "2 puffs"),
    ("Zinc 20 mg", "1 tab"),
    ("Iron and folic acid", "1 tab"),
    ("Clotrimazole cream", "thin layer"),
];

/// Name, unit, lowest and highest value in tenths.
pub(super) const TESTS: &[(&str, &str, u64, u64)] = &[
    ("Hb", "g/dL", 75, 168),
    ("WBC", "10^9/L", 31, 142),
    ("Platelets", "10^9/L", 900, 4_200),
    ("Glucose", "mg/dL", 680, 2_600),
    ("ESR", "mm/h", 20, 640),
    ("Creatinine", "mg/dL", 5, 21),
    ("Urine pH", "", 50, 80),
    ("Bilirubin", "mg/dL", 3, 28),
];

pub(super) const HOSPITALS: &[&str] = &["Valley Hospital", "District Hospital", "Regional Referral Hospital"];

pub(super) const VACCINES: &[&str] = &["BCG", "OPV", "IPV", "Pentavalent", "PCV", "MMR", "Td", "HPV"];

pub(super) const SITES: &[&str] = &["left thigh", "right thigh", "left upper arm", "right upper arm", "by mouth"];
