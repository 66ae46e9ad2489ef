#include "synthetic/word_list.h"

#include <array>
#include <string_view>
#include <unordered_set>

#include "base/random.h"

namespace gimbal::synthetic {
namespace {

// Words by falling frequency. The text is the project's own.
constexpr std::string_view kCommonWords =
    "the of and to a in is that it was for on are as with they be at one have this from or had by "
    "hot but some what there we can out other were all your when up use word how said an each she "
    "which do their time if will way about many then them would write like so these her long make "
    "thing see him two has look more day could go come did my sound no most number who over know "
    "water than call first people may down side been now find any new work part take get place "
    "made "
    "live where after back little only round man year came show every good me give our under name "
    "very through just form much great think say help low line before turn cause same mean differ "
    "move right boy old too does tell sentence set three want air well also play small end put "
    "home "
    "read hand port large spell add even land here must big high such follow act why ask men "
    "change "
    "went light kind off need house picture try us again animal point mother world near build self "
    "earth father head stand own page should country found answer school grow study still learn "
    "plant cover food sun four thought let keep eye never last door between city tree cross since "
    "hard start might story saw far sea draw left late run while press close night real life few "
    "stop open seem together next white children begin got walk example ease paper often always "
    "music those both mark book letter until mile river car feet care second group carry took rain "
    "eat room friend began idea fish mountain north once base hear horse cut sure watch color face "
    "wood main enough plain girl usual young ready above ever red list though feel talk bird soon "
    "body dog family direct pose leave song measure state product black short numeral class wind "
    "question happen complete ship area half rock order fire south problem piece told knew pass "
    "farm top whole king size heard best hour better true during hundred remember step early hold "
    "west ground interest reach fast five sing listen six table travel less morning ten simple "
    "several vowel toward war lay against pattern slow center love person money serve appear road "
    "map science rule govern pull cold notice voice fall power town fine certain fly unit lead cry "
    "dark machine note wait plan figure star box noun field rest correct able pound done beauty "
    "drive stood contain front teach week final gave green quick develop sleep warm free minute "
    "strong special mind behind clear tail produce fact street inch lot nothing course stay wheel "
    "full force blue object decide surface deep moon island foot yet busy test record boat common "
    "gold possible plane age dry wonder laugh thousand ago ran check game shape yes cool miss "
    "brought heat snow bed bring sit perhaps fill east weight language among model token expert "
    "layer router memory server request batch queue cache prompt answer engine system user "
    "assistant "
    "data value function return class import print string float array index update error result "
    "network compute train learn attention embed vector matrix kernel thread process file folder";

constexpr std::string_view kOtherWords =
    "für über größe straße schön können heißt être déjà français garçon où ça très même après "
    "también año mañana corazón señor niño qué está não coração você ação português più perché "
    "città så för är på från möjlig æble øre å čas řeka žena běh łódź gdzie źródło też ğ "
    "şehir için привет мир что это как он она время человек слово дом вода город хорошо жизнь "
    "γειά κόσμος καλημέρα και το η λόγος שלום עולם مرحبا العالم السلام नमस्ते दुनिया "
    "สวัสดี ขอบคุณ 你好 世界 中国 我们 时间 学习 语言 模型 今天 日本 日本語 こんにちは "
    "ありがとう です ます カタカナ 안녕하세요 세계 한국어 감사합니다 "
    "😀 😂 👍 🎉 🚀 🔥 ❤️ ✨ 🙏 "
    "👩‍💻 "
    "→ ← ≤ ≥ ≠ × ÷ ° € £ … – — “ ” ‘ ’ « »";

constexpr std::string_view kPunctuation =
    ". , : ; ! ? ... -- == != <= >= -> => () [] {} (); :: // /* */ ** ++ && || += -= <|> ' \" ` "
    "0 1 2 3 4 5 6 7 8 9 10 12 16 20 32 64 100 128 256 512 1000 1024 2000 2024 4096";

constexpr std::array<std::string_view, 8> kBlanks = {"\n",       "\n\n", "  ",   "    ",
                                                     "        ", "\t",   "\r\n", "\n    "};

constexpr std::array<std::string_view, 28> kOnsets = {
    "b", "c", "d", "f", "g",  "h",  "j",  "k",  "l",  "m",  "n",  "p",  "r",  "s",
    "t", "v", "w", "z", "br", "ch", "cl", "dr", "gr", "pl", "sh", "st", "th", "tr"};
constexpr std::array<std::string_view, 10> kVowels = {"a",  "e",  "i",  "o",  "u",
                                                      "ai", "ea", "io", "ou", "y"};
constexpr std::array<std::string_view, 12> kCodas = {"",  "",  "",  "",  "n",  "r",
                                                     "l", "s", "m", "t", "nd", "x"};
constexpr std::array<std::string_view, 10> kEndings = {"",    "",   "",   "s",    "ed",
                                                       "ing", "er", "ly", "ment", "ion"};

template <std::size_t n>
std::string_view pick(const std::array<std::string_view, n>& from, Rng& rng) {
  return from[rng.below(n)];
}

std::string invented_word(Rng& rng) {
  std::string word;
  const auto syllables = 1 + rng.below(3);
  for (std::uint64_t i = 0; i <= syllables; ++i) {
    word += pick(kOnsets, rng);
    word += pick(kVowels, rng);
    word += pick(kCodas, rng);
  }
  word += pick(kEndings, rng);
  return word;
}

class WordCollector {
 public:
  void add(std::string bytes, std::int64_t count) {
    if (seen_.insert(bytes).second) words_.push_back({std::move(bytes), count});
  }
  // Adds each word of a list, with a space before it and without, counts falling.
  void add_list(std::string_view list, std::int64_t count) {
    for (std::size_t at = 0, rank = 1; at < list.size(); ++rank) {
      const std::size_t end = std::min(list.find(' ', at), list.size());
      const std::string word(list.substr(at, end - at));
      const std::int64_t share = count / static_cast<std::int64_t>(rank + 10);
      if (!word.empty()) {
        add(" " + word, 8 * share + 64);
        add(word, share + 16);
        add_capitalised(word, share / 4 + 8);
      }
      at = end + 1;
    }
  }
  [[nodiscard]] std::size_t size() const { return words_.size(); }
  [[nodiscard]] std::vector<WeightedWord> take() { return std::move(words_); }

 private:
  void add_capitalised(std::string word, std::int64_t count) {
    if (word[0] < 'a' || word[0] > 'z') return;
    word[0] = static_cast<char>(word[0] - 'a' + 'A');
    add(" " + word, count);
    add(word, count);
  }

  std::unordered_set<std::string> seen_;
  std::vector<WeightedWord> words_;
};

}  // namespace

std::vector<WeightedWord> training_words(std::size_t minimum) {
  WordCollector words;
  words.add_list(kCommonWords, 400000);
  words.add_list(kOtherWords, 40000);
  words.add_list(kPunctuation, 40000);
  for (const auto blank : kBlanks) {
    words.add(std::string(blank), 3000);
  }
  Rng rng(0x776f726473ULL);
  for (std::int64_t rank = 1; words.size() < minimum; ++rank) {
    words.add(" " + invented_word(rng), 1 + 60000 / (rank + 100));
  }
  return words.take();
}

}  // namespace gimbal::synthetic
