// The SMTP password of Amazon SES, which is a signature made with the IAM user's secret access key.
#pragma once

#include <string>
#include <string_view>

namespace egret::smtp {

/// Amazon's documented derivation (SES developer guide, "Obtaining Amazon SES SMTP credentials by converting existing AWS
/// credentials"): Signature Version 4 with a fixed date over a fixed message, one octet of version in front, in base64.
/// A password serves one region only. Deterministic.
std::string ses_smtp_password(std::string_view secret_key, std::string_view region);

}  // namespace egret::smtp
