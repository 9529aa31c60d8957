#include "routing/mta_sts.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

std::optional<std::string> id(std::vector<std::string> texts) {
  return sts_record_id(texts);
}

StsPolicy policy(std::string_view text) {
  std::string why;
  const auto out = parse_sts_policy(text, &why);
  EXPECT_TRUE(out) << why;
  return out.value_or(StsPolicy{});
}

std::string refusal(std::string_view text) {
  std::string why;
  EXPECT_FALSE(parse_sts_policy(text, &why)) << text;
  return why;
}

/// A policy file with one line more.
std::string with(std::string_view line) {
  return "version: STSv1\nmode: enforce\nmax_age: 604800\nmx: mx.example.com\n" + std::string(line) + "\n";
}

// ---- the TXT record ----------------------------------------------------------------------------------------------

TEST(StsRecord, HasAnId) {
  EXPECT_EQ(id({"v=STSv1; id=20160831085700Z;"}), "20160831085700Z");  // the example of RFC 8461 section 3.1
  EXPECT_EQ(id({"v=STSv1;id=1"}), "1");
  EXPECT_EQ(id({"v=STSv1; id=1 ; "}), "1");
}

TEST(StsRecord, MayHaveUnknownFields) {
  EXPECT_EQ(id({"v=STSv1; a_b-c.d=x:y,z; id=7;"}), "7");
}

TEST(StsRecord, CountsTheFirstOfTwoIds) {
  EXPECT_EQ(id({"v=STSv1; id=1; id=2;"}), "1");
}

TEST(StsRecord, MayStandBesideOtherTexts) {
  EXPECT_EQ(id({"v=spf1 -all", "v=STSv1; id=1;", "", "v=STSv2; id=9;", "v=STSv1", " v=STSv1; id=3;", "V=STSv1; id=4;"}), "1");
}

TEST(StsRecord, MustBeTheOnlyOne) {
  EXPECT_EQ(id({}), std::nullopt);
  EXPECT_EQ(id({"v=spf1 -all"}), std::nullopt);
  EXPECT_EQ(id({"v=STSv1; id=1;", "v=STSv1; id=1;"}), std::nullopt);
  EXPECT_EQ(id({"v=STSv1; id=1;", "v=STSv1; broken"}), std::nullopt);
}

TEST(StsRecord, HasUpTo32LettersAndDigitsAsId) {
  EXPECT_EQ(id({"v=STSv1; id=" + std::string(32, 'a')}), std::string(32, 'a'));
  EXPECT_EQ(id({"v=STSv1; id=" + std::string(33, 'a')}), std::nullopt);
  for (const char* bad : {"", "a-b", "a b", "a.b", "\xc3\xbc", "a=b", "\"a\""})
    EXPECT_EQ(id({std::string("v=STSv1; id=") + bad + ";"}), std::nullopt) << bad;
}

TEST(StsRecord, IsNoneWhenMalformed) {
  for (const char* text : {"v=STSv1;", "v=STSv1; ;", "v=STSv1;; id=1", "v=STSv1; id", "v=STSv1; ID=1", "v=STSv1; =1; id=1",
                           "v=STSv1; id=1; x", "v=STSv1; id=1; x=", "v=STSv1; id=1; -x=1", "v=STSv1; id =1", "v=STSv1; id= 1"})
    EXPECT_EQ(id({text}), std::nullopt) << text;
}

// ---- the policy file ---------------------------------------------------------------------------------------------

TEST(StsPolicyFile, ReadsTheExampleOfTheRfc) {
  const auto out = policy(
      "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n");
  EXPECT_EQ(out, (StsPolicy{StsMode::enforce, 604800s, {"mail.example.com", "*.example.net", "backupmx.example.com"}}));
}

TEST(StsPolicyFile, MayEndItsLinesWithCrlf) {
  EXPECT_EQ(policy("version: STSv1\r\nmode: testing\r\nmx: MX.Example\r\nmax_age: 1\r\n"),
            (StsPolicy{StsMode::testing, 1s, {"mx.example"}}));
}

TEST(StsPolicyFile, NeedsNoEndOfTheLastLineAndNoSpaces) {
  EXPECT_EQ(policy("version:STSv1\nmode:\ttesting \nmax_age:   5\t\nmx:a.example"),
            (StsPolicy{StsMode::testing, 5s, {"a.example"}}));
}

TEST(StsPolicyFile, MayHaveBlankLines) {
  EXPECT_EQ(policy("\r\n\n" + with("  \n\n")).mode, StsMode::enforce);
}

TEST(StsPolicyFile, MayHaveUnknownFields) {
  EXPECT_EQ(policy(with("x-new.key_1: any thing: \xc3\xbc")), policy(with("")));
}

TEST(StsPolicyFile, CountsTheFirstOfRepeatedFields) {
  EXPECT_EQ(policy(with("mode: none\nversion: STSv2\nmax_age: x")), policy(with("")));
}

TEST(StsPolicyFile, NeedsNoMxInModeNone) {
  EXPECT_EQ(policy("version: STSv1\nmode: none\nmax_age: 86400\n"), (StsPolicy{StsMode::none, 86400s, {}}));
  for (const char* mode : {"enforce", "testing"})
    EXPECT_EQ(refusal(std::string("version: STSv1\nmax_age: 1\nmode: ") + mode), "no mx");
}

TEST(StsPolicyFile, NeedsVersionModeAndAge) {
  EXPECT_EQ(refusal(""), "no \"version: STSv1\"");
  EXPECT_EQ(refusal("version: STSv2\nmode: none\nmax_age: 1"), "no \"version: STSv1\"");
  EXPECT_EQ(refusal("version: STSv1\nmax_age: 1"), "no valid mode");
  EXPECT_EQ(refusal("version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.example"), "no valid mode");
  EXPECT_EQ(refusal("version: STSv1\nmode: none"), "no valid max_age");
}

TEST(StsPolicyFile, BoundsTheAge) {
  const auto age = [](std::string_view text) {
    return policy("version: STSv1\nmode: none\nmax_age: " + std::string(text)).max_age;
  };
  EXPECT_EQ(age("0"), 0s);
  EXPECT_EQ(age("31557600"), 31557600s);
  EXPECT_EQ(age("31557601"), 31557600s);
  EXPECT_EQ(age("99999999999999999999999999"), 31557600s);
  for (const char* bad : {"", "-1", "+1", "1d", "1 2", "0x10", "1.5"})
    EXPECT_EQ(refusal(std::string("version: STSv1\nmode: none\nmax_age: ") + bad), "no valid max_age") << bad;
}

TEST(StsPolicyFile, RefusesLinesThatAreNoFields) {
  for (const char* line :
       {"<html>", "mode", ": x", "mode : none", " mode: none", "-x: 1", "a/b: 1", "abcdefghijklmnopqrstuvwxyzabcdefg: 1"})
    EXPECT_EQ(refusal(with(line)), "a line is not \"key: value\"") << line;
  EXPECT_EQ(refusal("\xef\xbb\xbf" + with("")), "a line is not \"key: value\"");
}

TEST(StsPolicyFile, RefusesControlsAndBrokenUtf8) {
  for (const std::string& value : {std::string("a\rb"), std::string("a\0b", 3), std::string("a\x7f"), std::string("\xff")})
    EXPECT_EQ(refusal(with("x: " + value)), "a value holds control characters or is not UTF-8");
}

TEST(StsPolicyFile, RefusesAnMxThatIsNoHostName) {
  for (const char* mx :
       {"", "*", "*.", "**.example", "mx.*.example", "*mx.example", "a b", "a..b", "http://a", "\xc3\xbc.example"})
    EXPECT_EQ(refusal(with(std::string("mx: ") + mx)), "an mx is not a host name") << mx;
}

TEST(StsPolicyFile, IsBounded) {
  std::string text = with("");
  for (int i = 0; i < 255; ++i) text += "mx: a.example\n";
  EXPECT_EQ(policy(text).mx.size(), 256u);
  EXPECT_EQ(refusal(text + "mx: a.example\n"), "too many mx");
  const std::string start = with("") + "x: ";
  EXPECT_EQ(policy(start + std::string(max_sts_policy_size - start.size(), 'x')), policy(with("")));
  EXPECT_EQ(refusal(start + std::string(max_sts_policy_size - start.size() + 1, 'x')), "longer than 64 KB");
}

TEST(StsPolicyFile, SurvivesMutations) {
  std::mt19937 random(20261122);
  for (int round = 0; round < 20000; ++round) {
    std::string text = with("mx: *.example.net\r\nx: y");
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes)
      text[random() % text.size()] = static_cast<char>(random() % 3 ? ":\r\n *.\t0"[random() % 8] : random());
    std::string why;
    const auto out = parse_sts_policy(text, &why);
    EXPECT_EQ(out.has_value(), why.empty());
    for (const std::string& mx : out.value_or(StsPolicy{}).mx)
      EXPECT_EQ(mx.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.*"), std::string::npos);
  }
}

// ---- which mail exchangers it allows -----------------------------------------------------------------------------

bool matches(std::string pattern, std::string_view host) {
  return mx_matches({StsMode::enforce, 1s, {std::move(pattern)}}, host);
}

TEST(MxMatches, ComparesWholeNamesInAnyCase) {
  EXPECT_TRUE(matches("mx.example.com", "mx.example.com"));
  EXPECT_TRUE(matches("mx.example.com", "MX.Example.COM"));
  EXPECT_FALSE(matches("mx.example.com", "amx.example.com"));
  EXPECT_FALSE(matches("mx.example.com", "mx.example.com.evil.example"));
  EXPECT_FALSE(matches("example.com", "mx.example.com"));
  EXPECT_TRUE(matches("xn--bcher-kva.example", "XN--bcher-kva.example"));
}

TEST(MxMatches, TakesAWildcardForExactlyOneLabel) {
  EXPECT_TRUE(matches("*.example.com", "mx.example.com"));
  EXPECT_TRUE(matches("*.example.com", "MX.EXAMPLE.com"));
  EXPECT_FALSE(matches("*.example.com", "example.com"));
  EXPECT_FALSE(matches("*.example.com", ".example.com"));
  EXPECT_FALSE(matches("*.example.com", "a.b.example.com"));
  EXPECT_FALSE(matches("*.example.com", "mx.badexample.com"));
}

TEST(MxMatches, NeedsOneOfThePatterns) {
  const StsPolicy two{StsMode::enforce, 1s, {"a.example", "*.b.example"}};
  EXPECT_TRUE(mx_matches(two, "a.example"));
  EXPECT_TRUE(mx_matches(two, "x.b.example"));
  EXPECT_FALSE(mx_matches(two, "c.example"));
  EXPECT_FALSE(mx_matches(two, ""));
  EXPECT_FALSE(mx_matches({}, "a.example"));
}

// ---- what to do --------------------------------------------------------------------------------------------------

const Time start{std::chrono::hours(500'000)};
const StsRecord none{StsRecord::Status::none, {}}, failed{StsRecord::Status::failed, {}};

StsRecord found(std::string record_id) {
  return {StsRecord::Status::found, std::move(record_id)};
}

StsCached cached(std::chrono::seconds max_age) {
  return {{StsMode::enforce, max_age, {"mx.example.com"}}, "1", start};
}

TEST(DecideSts, FetchesAPolicyThatIsNotKnown) {
  EXPECT_EQ(decide_sts(nullptr, {}, found("1"), start), StsAction::fetch);
  EXPECT_EQ(decide_sts(nullptr, {}, none, start), StsAction::none);
  EXPECT_EQ(decide_sts(nullptr, {}, failed, start), StsAction::none);
}

TEST(DecideSts, UsesAPolicyWhileItsIdIsTheSame) {
  const StsCached week = cached(168h);
  EXPECT_EQ(decide_sts(&week, {}, found("1"), start + 1h), StsAction::use_cached);
  EXPECT_EQ(decide_sts(&week, {}, found("2"), start + 1h), StsAction::fetch);
}

TEST(DecideSts, UsesAFreshPolicyWhateverTheDnsSays) {
  const StsCached week = cached(168h);
  for (const StsRecord& record : {none, failed}) {
    EXPECT_EQ(decide_sts(&week, {}, record, start + 168h - 1ms), StsAction::use_cached);
    EXPECT_EQ(decide_sts(&week, {}, record, start + 168h), StsAction::none);
  }
}

TEST(DecideSts, RefreshesOnceADay) {
  const StsCached week = cached(168h);
  EXPECT_EQ(decide_sts(&week, {}, found("1"), start + 24h - 1ms), StsAction::use_cached);
  EXPECT_EQ(decide_sts(&week, {}, found("1"), start + 24h), StsAction::fetch);
}

TEST(DecideSts, RefreshesAShortPolicyAfterHalfItsLife) {
  const StsCached hour = cached(1h);
  EXPECT_EQ(decide_sts(&hour, {}, found("1"), start + 30min - 1ms), StsAction::use_cached);
  EXPECT_EQ(decide_sts(&hour, {}, found("1"), start + 30min), StsAction::fetch);
}

TEST(DecideSts, KeepsEveryPolicyFiveMinutes) {
  const StsCached nothing = cached(0s);
  EXPECT_EQ(decide_sts(&nothing, {}, found("1"), start + 1min), StsAction::use_cached);
  EXPECT_EQ(decide_sts(&nothing, {}, none, start + 5min), StsAction::none);
}

TEST(DecideSts, FetchesAgainWhenTheClockWentBack) {
  const StsCached week = cached(168h);
  EXPECT_EQ(decide_sts(&week, {}, found("1"), start - 1h), StsAction::fetch);
  EXPECT_EQ(decide_sts(&week, {}, none, start - 1h), StsAction::use_cached);
}

TEST(DecideSts, PausesAfterAFailure) {
  StsFailures failures;
  note_failure(failures, "1", start);
  EXPECT_EQ(decide_sts(nullptr, failures, found("1"), start + 5min - 1ms), StsAction::none);
  EXPECT_EQ(decide_sts(nullptr, failures, found("1"), start + 5min), StsAction::fetch);
}

TEST(DecideSts, UsesAFreshPolicyWhileItPauses) {
  const StsCached week = cached(168h);
  StsFailures failures;
  note_failure(failures, "2", start + 1h);
  EXPECT_EQ(decide_sts(&week, failures, found("2"), start + 1h + 1min), StsAction::use_cached);
  EXPECT_EQ(decide_sts(&week, failures, found("2"), start + 1h + 5min), StsAction::fetch);
}

TEST(DecideSts, DoesNotPauseForANewId) {
  StsFailures failures;
  note_failure(failures, "1", start);
  EXPECT_EQ(decide_sts(nullptr, failures, found("2"), start), StsAction::fetch);
}

TEST(NoteFailure, LengthensThePauseUpToAnHour) {
  StsFailures failures;
  std::vector<std::chrono::minutes> pauses;
  for (int i = 0; i < 6; ++i) {
    note_failure(failures, "1", start);
    pauses.push_back(std::chrono::duration_cast<std::chrono::minutes>(failures.retry_at - start));
  }
  EXPECT_EQ(pauses, (std::vector<std::chrono::minutes>{5min, 10min, 20min, 40min, 60min, 60min}));
  for (int i = 0; i < 5000; ++i) note_failure(failures, "1", start);
  EXPECT_EQ(failures.retry_at, start + 60min);
}

TEST(NoteFailure, StartsAnewForANewId) {
  StsFailures failures;
  for (int i = 0; i < 6; ++i) note_failure(failures, "1", start);
  note_failure(failures, "2", start);
  EXPECT_EQ(failures.retry_at, start + 5min);
}

// ---- what is kept ------------------------------------------------------------------------------------------------

using Saved = std::vector<std::pair<std::string, StsCached>>;

TEST(EncodeSts, IsReadBack) {
  const Saved all{{"a.example", cached(168h)}, {"b.example", {{StsMode::none, 0s, {}}, "x", start + 7ms}}};
  EXPECT_EQ(decode_sts(encode_sts(all), start + 1h), all);
  EXPECT_EQ(decode_sts(encode_sts({}), start), Saved{});
}

TEST(DecodeSts, BelievesNoTimeToCome) {
  const auto out = decode_sts(encode_sts(Saved{{"a.example", cached(1h)}}), start - 24h);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->at(0).second.fetched, start - 24h);
}

TEST(DecodeSts, RefusesWhatItDidNotWrite) {
  const std::string good = encode_sts(Saved{{"a.example", cached(1h)}});
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string("[1]"), std::string("[{}]"), good.substr(0, good.size() / 2),
        changed("a.example", "a b"), changed("enforce", "ENFORCE"), changed("3600", "-1"), changed("3600", "31557601"),
        changed("3600", "\"x\""), changed("mx.example.com", "mx/example"), changed("\"1\"", "\"\""), changed("\"id\"", "\"ID\"")})
    EXPECT_FALSE(decode_sts(text, start)) << text;
}

TEST(DecodeSts, SurvivesMutations) {
  std::mt19937 random(20261122);
  const std::string good = encode_sts(Saved{{"a.example", cached(1h)}, {"b.example", cached(168h)}});
  for (int round = 0; round < 20000; ++round) {
    std::string text = good;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes)
      text[random() % text.size()] = static_cast<char>(random() % 2 ? '0' + random() % 10 : random());
    if (const auto out = decode_sts(text, start)) EXPECT_LE(out->size(), 2u);
  }
}

}  // namespace
}  // namespace egret::routing
