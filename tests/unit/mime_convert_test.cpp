#include "smtp/mime_convert.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "smtp/mime_encode.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

std::string qp(std::string_view text) {
  std::string out;
  append_quoted_printable(text, out);
  return out;
}

std::string base64_lines(std::string_view bytes) {
  std::string out;
  append_base64_lines(bytes, out);
  return out;
}

/// A naive reader of quoted-printable.
std::string decode_qp(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '=')
      out += text[i];
    else if (text.substr(i, 3) != "=\r\n")
      out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
    if (text[i] == '=') i += 2;
  }
  return out;
}

bool ascii(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return (static_cast<unsigned char>(c) & 0x80) != 0; });
}

std::string convert(std::string_view message) {
  std::string why;
  const auto out = to_seven_bit(message, why);
  EXPECT_TRUE(out) << why;
  return out.value_or("");
}

/// The reason for a refusal; empty if there is none.
std::string refusal(std::string_view message) {
  std::string why;
  return to_seven_bit(message, why) ? "" : why;
}

/// A multipart of which `fields` are added to the header and `body` holds the parts.
std::string mixed(std::string_view body, std::string_view fields = "", std::string_view boundary = "b") {
  std::string out = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=";
  return out.append(boundary).append("\r\n").append(fields).append("\r\n").append(body);
}

std::string leaf(std::string_view fields, std::string_view body) {
  return std::string("MIME-Version: 1.0\r\n").append(fields).append("\r\n").append(body);
}

TEST(QuotedPrintable, LeavesPlainTextAlone) {
  EXPECT_EQ(qp("Hello, world: 1 + 1\tis 2!\r\n\r\nBye.\r\n"), "Hello, world: 1 + 1\tis 2!\r\n\r\nBye.\r\n");
  EXPECT_EQ(qp(""), "");
}

TEST(QuotedPrintable, EncodesEightBitEqualsAndControls) {
  EXPECT_EQ(qp("a=\xC3\xBC\x01\x7F"), "a=3D=C3=BC=01=7F");
  EXPECT_EQ(qp("a\rb\nc\r"), "a=0Db=0Ac=0D");
}

TEST(QuotedPrintable, EncodesBlanksAtTheEndOfALine) {
  EXPECT_EQ(qp("a \r\nb\t\r\n \r\nc "), "a=20\r\nb=09\r\n=20\r\nc=20");
  EXPECT_EQ(qp("-- \r\n"), "=2D-=20\r\n");
}

TEST(QuotedPrintable, EncodesWhatMustNotBeginALine) {
  EXPECT_EQ(qp(".\r\n..\r\na."), "=2E\r\n=2E.\r\na.");
  EXPECT_EQ(qp("From me\r\nFrom\r\nfrom me\r\na From me"), "=46rom me\r\nFrom\r\nfrom me\r\na From me");
  EXPECT_EQ(qp("--b\r\n-b"), "=2D-b\r\n-b");
}

TEST(QuotedPrintable, BreaksLinesAt76Octets) {
  EXPECT_EQ(qp(std::string(76, 'x')), std::string(76, 'x'));
  EXPECT_EQ(qp(std::string(77, 'x')), std::string(75, 'x') + "=\r\nxx");
  EXPECT_EQ(qp(std::string(73, 'x') + "\xFF"), std::string(73, 'x') + "=FF");
  EXPECT_EQ(qp(std::string(74, 'x') + "\xFF"), std::string(74, 'x') + "=\r\n=FF");
  EXPECT_EQ(qp(std::string(75, 'x') + "--b"), std::string(75, 'x') + "=\r\n=2D-b");
  EXPECT_EQ(qp(std::string(75, 'x') + ".b"), std::string(75, 'x') + "=\r\n=2Eb");
}

TEST(QuotedPrintableProperty, GivesEveryOctetBackInShortLines) {
  std::mt19937 random(1);
  constexpr std::string_view alphabet = "ab.-=F \t\r\n\xC3\xBC";
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (auto n = random() % 400; n > 0; --n)
      text += random() % 20 == 0 ? "\r\n" : random() % 20 == 0 ? "From " : std::string(1, alphabet[random() % alphabet.size()]);
    const std::string encoded = qp(text);
    ASSERT_TRUE(ascii(encoded));
    ASSERT_EQ(decode_qp(encoded), text);
    for (std::size_t at = 0, end = 0; end != std::string::npos; at = end + 2) {
      end = encoded.find("\r\n", at);
      const std::string_view line = std::string_view(encoded).substr(at, end - at);
      ASSERT_LE(line.size(), 76u);
      ASSERT_FALSE(line.starts_with('.') || line.starts_with("From ") || line.starts_with("--"));
      ASSERT_FALSE(line.ends_with(' ') || line.ends_with('\t'));
      ASSERT_EQ(line.find_first_of("\r\n"), std::string_view::npos);
    }
  }
}

TEST(Base64Lines, AreOf76OctetsWithoutALastLineEnd) {
  EXPECT_EQ(base64_lines(""), "");
  EXPECT_EQ(base64_lines("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64_lines(std::string(57, '\0')), std::string(76, 'A'));
  EXPECT_EQ(base64_lines(std::string(58, '\0')), std::string(76, 'A') + "\r\nAA==");
}

TEST(MimeConvert, LeavesASevenBitMessageAlone) {
  for (const std::string message : {"", "\r\n", "Subject: x\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain\r\n", "no header"})
    EXPECT_EQ(convert(message), message);
  const std::string multipart = mixed("--b\r\n\r\nx\r\n--b--\r\n", "Content-Transfer-Encoding: 8bit\r\n");
  EXPECT_EQ(convert(multipart), multipart);
}

TEST(MimeConvert, EncodesTextAsQuotedPrintableAndReplacesTheLabelInItsPlace) {
  EXPECT_EQ(convert("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nCONTENT-transfer-encoding : 8BIT\r\n"
                    "Subject: x\r\n\r\ngr\xC3\xBC\xC3\x9F\r\n.\r\n"),
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
            "Subject: x\r\n\r\ngr=C3=BC=C3=9F\r\n=2E\r\n");
}

TEST(MimeConvert, AddsAMissingLabel) {
  EXPECT_EQ(convert(leaf("Content-Type: TEXT/html\r\n", "\xFF\r\n")),
            leaf("Content-Type: TEXT/html\r\nContent-Transfer-Encoding: quoted-printable\r\n", "=FF\r\n"));
}

TEST(MimeConvert, EncodesOtherPartsAsBase64WithTheirLineEnds) {
  EXPECT_EQ(convert(leaf("Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n", "\xFF\r\n")),
            leaf("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n", "/w0K\r\n"));
  EXPECT_EQ(convert(mixed("--b\r\nContent-Type: a/b\r\n\r\n\xFF\r\n--b--")),
            mixed("--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n/w==\r\n--b--"));
}

TEST(MimeConvert, TakesAnUnreadableContentTypeForText) {
  for (const auto type : {"", " text", " text/", " /x", " multipart", " (a comment", " ;", "\r\n "})
    EXPECT_NE(convert(leaf(std::string("Content-Type:") + type + "\r\n", "\xFF\r\n")).find("quoted-printable"), std::string::npos)
        << type;
}

TEST(MimeConvert, ReadsLabelsWithCommentsAndFolding) {
  EXPECT_EQ(convert(leaf("Content-Transfer-Encoding:\r\n (as (it) is) 8bit (or \\) not)\r\nContent-Type: (x) image (y) /png\r\n",
                         "\xFF\r\n")),
            leaf("Content-Transfer-Encoding: base64\r\nContent-Type: (x) image (y) /png\r\n", "/w0K\r\n"));
}

TEST(MimeConvert, MakesMimeOfAMessageThatIsNone) {
  EXPECT_EQ(convert("Subject: x\r\n\r\ngr\xC3\xBC\xC3\x9F\r\n"),
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9F\r\n");
  EXPECT_EQ(convert("\r\ngr\xFC\xDF\r\n"),
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=FC=DF\r\n");
}

TEST(MimeConvert, KeepsTheContentTypeOfAMessageWithoutMimeVersion) {
  EXPECT_EQ(convert("Content-Type: text/plain; charset=koi8-r\r\n\r\n\xC1\r\n"),
            "Content-Type: text/plain; charset=koi8-r\r\nMIME-Version: 1.0\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C1\r\n");
}

TEST(MimeConvert, EndsTheHeaderBeforeALineThatIsNoField) {
  EXPECT_EQ(convert("Subject: x\r\ngr\xC3\xBC\xC3\x9F: y\r\n\r\nz\r\n"),
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9F: y\r\n\r\nz\r\n");
}

TEST(MimeConvert, TouchesOnlyThePartsThatNeedIt) {
  const std::string seven = "--b \t\r\nContent-Transfer-Encoding: 8bit\r\nX:  y\r\n\r\nplain  \r\n.\r\n";
  EXPECT_EQ(convert(mixed("pre\r\n" + seven + "--b\r\n\r\n\xFF\r\n--b--\t\r\npost\r\n", "Content-Transfer-Encoding: 8bit\r\n")),
            mixed("pre\r\n" + seven + "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n--b--\t\r\npost\r\n",
                  "Content-Transfer-Encoding: 7bit\r\n"));
}

TEST(MimeConvert, LabelsNoMultipartThatHadNoLabel) {
  EXPECT_EQ(convert(mixed("--b\r\n\r\n\xFF\r\n--b--\r\n")).find("7bit"), std::string::npos);
}

TEST(MimeConvert, ReplacesWhatNobodyReadsAroundTheParts) {
  EXPECT_EQ(convert(mixed("gr\xC3\xBC\r\n--b\r\n\r\nx\r\n--b--\r\n\xFF\r\n")), mixed("gr??\r\n--b\r\n\r\nx\r\n--b--\r\n?\r\n"));
}

TEST(MimeConvert, MakesNoDelimiterByReplacing) {
  EXPECT_EQ(convert(mixed("--b\xFF\r\n--b?\r\n\r\nx\r\n--b?--\r\n--b\xFF\r\n", "", "\"b?\"")),
            mixed("?-b?\r\n--b?\r\n\r\nx\r\n--b?--\r\n?-b?\r\n", "", "\"b?\""));
}

TEST(MimeConvert, MakesNoDelimiterByEncoding) {
  EXPECT_EQ(
      convert(mixed("--=FF\r\n\r\n--\xFF=\r\n--\xFF\r\n--=FF--\r\n", "", "\"=FF\"")),
      mixed("--=FF\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=2D-=FF=3D\r\n=2D-=FF\r\n--=FF--\r\n", "", "\"=FF\""));
}

TEST(MimeConvert, ToleratesAMissingClosingDelimiter) {
  EXPECT_EQ(convert(mixed("--b\r\n\r\n\xFF\r\n")), mixed("--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n"));
  EXPECT_EQ(convert(mixed("\xFF\r\n--b")), mixed("?\r\n--b"));
}

TEST(MimeConvert, TakesOnlyWholeLinesForDelimiters) {
  const std::string head = "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
  EXPECT_EQ(convert(mixed("--b\r\n\r\n--bc\r\n--b x\r\n --b\r\n--b-\r\n--b--x\r\n\xFF\r\n--b--")),
            mixed(head + "=2D-bc\r\n=2D-b x\r\n --b\r\n=2D-b-\r\n=2D-b--x\r\n=FF\r\n--b--"));
}

TEST(MimeConvert, KeepsEmptyPartsEmpty) {
  EXPECT_EQ(convert(mixed("--b\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b\r\n\r\n\xFF\r\n--b--\r\n")),
            mixed("--b\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n--b--\r\n"));
}

TEST(MimeConvert, ReadsTheBoundaryInAllItsForms) {
  const std::pair<const char*, const char*> forms[] = {
      {"boundary=b1", "b1"},
      {"BOUNDARY = \"b1\"", "b1"},
      {"boundary=\"b 1(\\\"\"", "b 1(\""},
      {"boundary=----=_Part/1:2", "----=_Part/1:2"},
      {"boundary=b1(comment)", "b1"},
      {"charset=\"a;boundary=x\" ; boundary=b1; x=y", "b1"},
      {"(;boundary=x) boundary=b1", "b1"},
      {"nonsense; boundary=b1;;", "b1"},
      {"\r\n\tboundary=\"b\r\n 1\"", "b 1"},
      {"boundary*=us-ascii'en'b%201", "b 1"},
      {"boundary*=''b1", "b1"},
      {"boundary*0=b; boundary*1=1", "b1"},
      {"boundary*1=1; boundary*0*=''%62", "b1"},
      {"boundaryx=y; boundary*x=y; boundary=b1", "b1"},
  };
  for (const auto& [parameter, boundary] : forms) {
    const std::string line = std::string("--") + boundary;
    const std::string out = convert(leaf(std::string("Content-Type: multipart/x; ") + parameter + "\r\n",
                                         line + "\r\nContent-Type: a/b\r\n\r\n\xFF\r\n" + line + "--\r\n"));
    EXPECT_TRUE(out.ends_with("\r\n\r\n/w==\r\n" + line + "--\r\n")) << parameter << "\n" << out;
  }
}

TEST(MimeConvert, RefusesAMultipartWithoutAUsableBoundary) {
  const std::string too_long = "; boundary=" + std::string(71, 'x');
  for (const std::string parameter :
       {"", "; boundary", "; boundary=", "; boundary=\"\"", "; boundary=\"b", "; boundary=\"b \"", "; boundary=b; boundary=c",
        "; boundary=b; boundary*0=b", "; boundary=b; boundary*1=c", "; boundary*1=b", "; boundary*0=b; boundary*2=c",
        "; boundary*=b", "; boundary*=''%6", "; boundary*=''%zz", "; boundary*=''%FF", "; boundary*=''%0D",
        "; boundary*99999999999999999999=b", too_long.c_str()})
    EXPECT_EQ(refusal(leaf("Content-Type: multipart/mixed" + parameter + "\r\n", "--b\r\n\r\n\xFF\r\n--b--\r\n")),
              "a multipart has no usable boundary")
        << parameter;
  const std::string longest(70, 'x');
  EXPECT_EQ(refusal(mixed("--" + longest + "\r\n\r\n\xFF\r\n", "", longest)), "");
}

TEST(MimeConvert, RefusesAMultipartWithoutItsDelimiter) {
  EXPECT_EQ(refusal(mixed("\xFF\r\n")), "a multipart lacks its delimiter");
  EXPECT_EQ(refusal(mixed("--b--\r\n\xFF\r\n--b\r\n")), "a multipart lacks its delimiter");
}

TEST(MimeConvert, ConvertsNestedMultiparts) {
  const std::string inner = "Content-Type: multipart/alternative; boundary=bb\r\n";
  EXPECT_EQ(convert(mixed("--b\r\n" + inner +
                          "Content-Transfer-Encoding: binary\r\n\r\n--bb\r\n\r\n\xFF\r\n--b\r\n\r\nx\r\n--b--\r\n")),
            mixed("--b\r\n" + inner +
                  "Content-Transfer-Encoding: 7bit\r\n\r\n--bb\r\nContent-Transfer-Encoding: quoted-printable"
                  "\r\n\r\n=FF\r\n--b\r\n\r\nx\r\n--b--\r\n"));
}

TEST(MimeConvert, ConvertsInsideAnAttachedMessage) {
  const std::string attached = "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: ";
  EXPECT_EQ(convert(mixed(attached + "8bit\r\n\r\nMIME-Version: 1.0\r\nContent-Type: a/b\r\n\r\n\xFF\r\n--b--\r\n")),
            mixed(attached + "7bit\r\n\r\nMIME-Version: 1.0\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                             "/w==\r\n--b--\r\n"));
}

TEST(MimeConvert, TakesThePartsOfADigestForMessages) {
  EXPECT_EQ(convert(leaf("Content-Type: multipart/digest; boundary=b\r\n", "--b\r\n\r\nSubject: x\r\n\r\n\xFF\r\n--b--\r\n")),
            leaf("Content-Type: multipart/digest; boundary=b\r\n",
                 "--b\r\n\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
                 "Content-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n--b--\r\n"));
}

TEST(MimeConvert, RefusesEightBitOctetsInAnyHeader) {
  const std::string why = "8-bit octets in the header need SMTPUTF8";
  EXPECT_EQ(refusal("Subject: gr\xC3\xBC\r\n\r\nx\r\n"), why);
  EXPECT_EQ(refusal("Subject: x\r\n gr\xC3\xBC"), why);
  EXPECT_EQ(refusal(mixed("--b\r\nContent-Type: a/b; name=\xFF\r\n\r\nx\r\n--b--\r\n")), why);
  EXPECT_EQ(refusal(leaf("Content-Type: message/rfc822\r\n", "Subject: \xFF\r\n\r\n")), why);
}

TEST(MimeConvert, RefusesWhatAnEncodingWouldBreak) {
  const auto nested = [](const std::string& type) {
    return refusal(mixed("--b\r\nContent-Type: " + type + "\r\n\r\n--c\r\n\r\n\xFF\r\n--c--\r\n--b--\r\n"));
  };
  EXPECT_EQ(nested("multipart/signed; boundary=c"), "a signed part holds 8-bit octets");
  EXPECT_EQ(nested("Multipart/Encrypted; boundary=c"), "an encrypted part holds 8-bit octets");
  EXPECT_EQ(nested("message/partial; number=1"), "a message fragment holds 8-bit octets");
  EXPECT_EQ(nested("message/external-body"), "a reference to an external body holds 8-bit octets");
}

TEST(MimeConvert, KeepsASevenBitSignedPartByteForByte) {
  const std::string part =
      "Content-Type: multipart/signed; boundary=s\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--s\r\n\r\nx \r\n--s--";
  EXPECT_NE(convert(mixed("--b\r\n" + part + "\r\n--b\r\n\r\n\xFF\r\n--b--\r\n")).find("--b\r\n" + part + "\r\n--b\r\n"),
            std::string::npos);
}

TEST(MimeConvert, RefusesRawOctetsUnderAnEncoding) {
  for (const auto name : {"quoted-printable", "Base64", " (x) base64 ; y"})
    EXPECT_EQ(refusal(leaf(std::string("Content-Transfer-Encoding: ") + name + "\r\n", "\xFF\r\n")),
              "an encoded part holds raw 8-bit octets")
        << name;
  for (const auto name : {"x-uuencode", "utf-8", "\"8bit\""})
    EXPECT_EQ(refusal(leaf(std::string("Content-Transfer-Encoding: ") + name + "\r\n", "\xFF\r\n")),
              "a part in an unknown transfer encoding holds 8-bit octets")
        << name;
  EXPECT_EQ(refusal(leaf("Content-Transfer-Encoding:\r\n", "\xFF\r\n")), "");
}

TEST(MimeConvert, RefusesAMimeFieldThatStandsTwice) {
  for (const auto field : {"MIME-version: 1.0\r\n", "Content-Type: a/b\r\ncontent-type: a/b\r\n",
                           "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 7bit\r\n"})
    EXPECT_EQ(refusal(leaf(field, "\xFF\r\n")), "a MIME header field stands twice") << field;
}

TEST(MimeConvert, BoundsTheDepth) {
  const auto nest = [](int levels) {
    std::string out = "MIME-Version: 1.0\r\n";
    for (int i = 0; i < levels; ++i) {
      const std::string name = std::to_string(100 + i);
      out += "Content-Type: multipart/mixed; boundary=" + name + "\r\n\r\n--" + name + "\r\n";
    }
    return out + "\r\n\xFF\r\n";
  };
  EXPECT_EQ(refusal(nest(max_mime_depth - 1)), "");
  EXPECT_EQ(refusal(nest(max_mime_depth)), "its parts are nested too deep");
  EXPECT_EQ(refusal(nest(100'000)), "its parts are nested too deep");
}

TEST(MimeConvert, BoundsTheNumberOfParts) {
  const auto with_parts = [](int count) {
    std::string body = "\xFF\r\n";
    for (int i = 0; i < count; ++i) body += "--b\r\n\r\nx\r\n";
    return mixed(body + "--b--\r\n");
  };
  EXPECT_EQ(refusal(with_parts(max_mime_parts)), "");
  EXPECT_EQ(refusal(with_parts(max_mime_parts + 1)), "it has too many parts");
}

TEST(MimeConvert, BoundsTheGrowth) {
  std::string body;
  for (int i = 0; i < 9000; ++i) body += "--b\r\n\r\n\xFF\r\n";
  EXPECT_EQ(refusal(mixed(body)), "it would grow too much in conversion to 7-bit");
  EXPECT_EQ(refusal(leaf("", std::string(1'000'000, '\xFF'))), "");
}

TEST(MimeConvertProperty, GivesSevenBitOrAReasonForAnyInput) {
  std::mt19937 random(7);
  constexpr std::string_view pieces[] = {"\r\n",
                                         "--b",
                                         "--",
                                         "--b--",
                                         "Content-Type: ",
                                         "text/x",
                                         "\xC3\xBC",
                                         "\xFF",
                                         "multipart/x; ",
                                         "boundary=b",
                                         "message/rfc822",
                                         "boundary*0*=''%62",
                                         "\"",
                                         "(",
                                         "Content-Transfer-Encoding: ",
                                         "8bit",
                                         "\r\n\r\n",
                                         " ",
                                         "a: ",
                                         "\\"};
  int converted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string message = random() % 2 ? mixed("") : "";
    for (auto n = random() % 30; n > 0; --n) message += pieces[random() % std::size(pieces)];
    std::string why;
    const auto out = to_seven_bit(message, why);
    if (!out) {
      ASSERT_FALSE(why.empty());
      continue;
    }
    ++converted;
    ASSERT_TRUE(ascii(*out)) << message;
    ASSERT_EQ(message.ends_with("\r\n") && !out->ends_with("\r\n"), false) << message;
    ASSERT_EQ(convert(*out), *out);
  }
  EXPECT_GT(converted, 5000);
}

}  // namespace
}  // namespace egret::smtp
